"""The install test: the documentation's own commands, in a container with a Debian of its own.

`pages` takes the commands out of the pages, `inside` runs them, `credentials` makes the
certificates that a site has from its CA, `remains` compares what there was before with what is left
after. The stages are in `stages`, their order in `__main__`.
"""
