"""Many runs: what they are, said in a file."""
