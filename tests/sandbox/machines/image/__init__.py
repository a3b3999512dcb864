"""The root filesystem of machines: how it is made, kept and given to the machine engine."""
