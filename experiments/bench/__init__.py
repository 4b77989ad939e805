"""What the speed tables share: timing, calibration, tables, the file of rows, the command that runs them."""
