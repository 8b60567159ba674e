-- A run that is held back by itself, whatever its sweeps want.
ALTER TABLE run ADD COLUMN paused BOOLEAN NOT NULL DEFAULT FALSE;
