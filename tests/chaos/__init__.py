"""What the world may do to our letters, on real processes, sockets and clocks; short forms run with every test."""
