"""Foretell how long a model will last, close its weak spots with a guard, and look again."""

from ase.build import molecule

import mdxai
from mdxai.calculators import guard_of
from mdxai.monitoring.run import RunSettings, simulate

ethanol = molecule("CH3CH2OH")
model = mdxai.load_calculator("schnet-ethanol")

# 1. How long will 100 ps at 1000 K last, and what will break first?
forecast = mdxai.foretell(model, ethanol, temperature=1000, duration=100)
print(forecast.sentence)
print(forecast.table())
forecast.write("forecast.json")

# 2. A guard: a potential of pairs, zero within the distances that training has seen.
guarded = mdxai.guard(mdxai.load_calculator("schnet-ethanol"), ethanol)
print(guard_of(guarded))

# 3. Is there still a way into a hole that a hot run could take?
spots = mdxai.weak_spots(guarded, ethanol, temperature=1000)
print(f"{len(forecast.weak_spots.spots)} weak spots before, {len(spots.spots)} with the guard")

# 4. Watch a guarded run. The principle `guard_work` says how much the guard has to do.
settings = RunSettings(temperature=1000, steps=4000, seed=1)
monitor = simulate(guarded, ethanol, settings, "runs/guarded")
print(monitor.verdict)
work = mdxai.open_run("runs/guarded").to_dataframe()["guard_work"]
print(f"the guard holds {1000 * work.mean():.2f} meV on average, {1000 * work.max():.1f} at most")

# A guard keeps a model out of its holes; labels fill them. With the data that the model was trained
# on and a reference, one command does it:
#
#   mdxai mend schnet-ethanol --data rmd17/ --label pyscf --temperature 1000 --duration 100ps
