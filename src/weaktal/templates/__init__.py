"""A small method that works, as `weaktal new method` writes it for somebody who has an idea."""
