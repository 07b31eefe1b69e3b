"""What tests of every package start from: real servers, real models."""
