"""mdxai."""
