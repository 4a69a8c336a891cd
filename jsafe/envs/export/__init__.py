"""Our environments, offered to the code of others."""
