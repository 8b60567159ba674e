-- A run that is held back by itself, whatever its sweeps want.
ALTER TABLE run ADD COLUMN paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1));
