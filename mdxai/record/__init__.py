"""The run directory: what a monitored run writes, and how it is read.

    run.toml                what was run: schema, versions, calculator, engine, parameters
    frames-*.parquet        a row per recorded frame: energies, temperature, every deviation
    trajectory-*.parquet    a row per recorded frame: positions, velocities, forces, cell
    explanations-*.parquet  a row per explained frame: output, residual, relevance by body
                            order and by atom
    pairs-*.parquet         a row per pair and explained frame: distance, vector, relevance
    triples-*.parquet       a row per triple and explained frame: relevance
    events-*.parquet        a row per event
    checkpoint-*.npz        the last states from which the run can be resumed
    profile-*.parquet       relevance against distance, per element pair
    weak_spots.json         the model's weak spots, where these are followed
    verdict.json            the verdict

`layout` names all files. Each appears complete or not at all. Parts, checkpoints, run.toml and
verdict.json carry their SHA-256.
"""

from mdxai.record.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from mdxai.record.durable_files import RecordError, RecordWarning
from mdxai.record.header import differences
from mdxai.record.layout import list_checkpoints
from mdxai.record.opening import open_run
from mdxai.record.parts import Part, list_parts
from mdxai.record.reader import Run
from mdxai.record.record_settings import RecordSettings
from mdxai.record.repair import Repair, repair
from mdxai.record.writer import RunWriter, refuse_other_run

__all__ = [
    "Checkpoint",
    "Part",
    "RecordError",
    "RecordSettings",
    "RecordWarning",
    "Repair",
    "Run",
    "RunWriter",
    "differences",
    "latest_checkpoint",
    "list_checkpoints",
    "list_parts",
    "open_run",
    "read_checkpoint",
    "refuse_other_run",
    "repair",
    "write_checkpoint",
]
