"""What the pocket model knows: scenes, how they look, how they are told, and a judge that tells whether a picture shows one."""
