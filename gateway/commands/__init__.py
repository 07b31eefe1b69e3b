"""The commands of `gateway`, a file for each noun; each adds its own flags and says what it does with them."""
