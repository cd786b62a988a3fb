"""What a kernel runs on: the model, the host, Unicorn and QEMU, behind one port."""
