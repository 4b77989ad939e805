"""The cortical stack beside other libraries' neurons and scans: the same inputs and answers, one run."""
