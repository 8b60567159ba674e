-- A run that is given up by itself, whatever its sweeps want.
ALTER TABLE run ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0 CHECK (dropped IN (0, 1));
