#!/bin/sh
# Temporary, while packages for a sandbox are installed: starts no service.
exit 101
