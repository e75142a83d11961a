"""What clients stream to and from pods: exec, attach, port-forward, over WebSockets and SPDY."""
