"""What differs between operating systems: one small module for each subject, with a fallback that works everywhere."""
