"""Watch a calculator that mdxai knows nothing of: CHGNet, whose weights come with its package."""

import numpy as np
from ase import units
from ase.build import bulk
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from chgnet.model.dynamics import CHGNetCalculator

import mdxai
from mdxai.monitoring.check import check

calculator = CHGNetCalculator(use_device="cpu")
silicon = bulk("Si", cubic=True)

# Before any simulation: does the model obey what physics demands of it?
for result in check(calculator, silicon):
    if result.verdict in ("warn", "fail"):
        print(f"{result.name}: {result.value:.3g} {result.unit}, {result.verdict}")

silicon.calc = calculator
rng = np.random.default_rng(1)
thermalize_momenta(silicon, temperature_K=900, rng=rng)
dyn = Langevin(
    silicon, 2 * units.fs, temperature_K=900, friction=0.01 / units.fs, fixcm=False, rng=rng
)
with mdxai.Monitor(dyn, "runs/silicon", on_unstable="halt") as monitor:
    dyn.attach(monitor, interval=1)
    dyn.run(200)
print(monitor.verdict)

# Relevance needs to see into the network. Second derivatives explain any calculator instead.
attribution = mdxai.attributor(calculator, method="hessian").attribute(silicon)
pairs = attribution.pairs
for k in np.argsort(-attribution.strengths)[:3]:
    print(f"atoms {pairs.i[k]} and {pairs.j[k]}, {pairs.distances[k]:.2f} Å: "
          f"{attribution.strengths[k]:.1f} eV/Å²")  # fmt: skip
