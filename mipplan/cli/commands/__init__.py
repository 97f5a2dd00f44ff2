"""The commands, by what they are about; `mipplan.cli.app` lists them."""
