"""The compiled part: token buckets and frames. Installed as the subpackage koko_presence._fastpath."""
