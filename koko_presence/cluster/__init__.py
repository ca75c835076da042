"""How edges and shards reach each other. With one worker that is a direct call."""
