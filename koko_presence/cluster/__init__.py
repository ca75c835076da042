"""How edges and owners of several workers reach each other, and how ownership moves. With one worker a direct call."""
