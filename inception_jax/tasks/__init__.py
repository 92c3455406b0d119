"""What is learned: each task says how data is read, what is minimised and how it is tested."""
