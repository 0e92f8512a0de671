"""A whole implantation against the simulated world: the one package where controller and simulator meet."""
