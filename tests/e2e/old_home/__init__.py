"""A home that an earlier commit made and filled, what that commit said of it, and the program that makes another."""
