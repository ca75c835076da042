"""The rooms and users that one worker owns: commands in, effects out, without I/O."""
