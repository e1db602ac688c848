"""What every room needs and none owns: files, the machine, OpenVINO, threads and processes, the user's settings."""
