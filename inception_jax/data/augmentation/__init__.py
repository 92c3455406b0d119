"""Random changes of training images: crops on the host, colours and mixup on the device."""
