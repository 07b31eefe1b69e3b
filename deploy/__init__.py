"""How the gateway is put into containers: the steps of the image, and what compose.yaml mounts."""
