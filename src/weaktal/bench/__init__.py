"""Many runs: methods x data sets x seeds, measured, in one table; the search for hyper-parameters."""
