"""Watch a script of your own: three lines more than plain ASE, marked below."""

import numpy as np
from ase import units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta

import mdxai

atoms = molecule("CH3CH2OH")
atoms.calc = mdxai.load_calculator("schnet-ethanol")  # or any other ASE calculator
rng = np.random.default_rng(1)
thermalize_momenta(atoms, temperature_K=500, rng=rng)
dyn = Langevin(
    atoms, 0.5 * units.fs, temperature_K=500, friction=0.01 / units.fs, fixcm=False, rng=rng
)

with mdxai.Monitor(dyn, "runs/mine", attribute_every=10) as monitor:  # new
    dyn.attach(monitor, interval=1)  # new
    dyn.run(2000)
print(monitor.verdict)  # new

# Everything that was seen is in the run directory, for this and any later script.
run = mdxai.open_run("runs/mine")
table = run.to_dataframe()
print(table[["time_fs", "temperature_K", "potential_energy_eV"]].describe().round(2))

# What does the energy come from at the last explained step?
*_, (step, attribution) = run.attributions()
symbols = atoms.get_chemical_symbols()
strongest = np.argsort(-np.abs(attribution.two_body))[:5]
print(f"strongest interactions at step {step}:")
for k in strongest:
    i, j = attribution.pairs.i[k], attribution.pairs.j[k]
    print(f"  {symbols[i]}{i}–{symbols[j]}{j}: {attribution.two_body[k]:+.2f} eV")
