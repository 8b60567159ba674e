-- A run that is given up by itself, whatever its sweeps want.
ALTER TABLE run ADD COLUMN dropped BOOLEAN NOT NULL DEFAULT FALSE;
