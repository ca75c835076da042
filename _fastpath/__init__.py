"""The compiled part: reading, checking, encoding and writing of cursors and frames. Installed as
`koko_presence._fastpath`.
"""
