"""Messages and framing between gateway, replica, coordinator and operator: structs and codecs, no sockets."""
