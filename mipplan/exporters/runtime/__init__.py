"""What an export takes along: code that runs beside the servers, where mipplan need not be installed."""
