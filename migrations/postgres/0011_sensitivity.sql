-- A fourth role: a place of the grid at another learning rate, which enters no fit. In `v_run` one row
-- is one observation once the run has finished, unless its role is `trunk` or `sensitivity`.
ALTER TABLE sweep_run DROP CONSTRAINT sweep_run_role_check;
ALTER TABLE sweep_run ADD CONSTRAINT sweep_run_role_check
    CHECK (role IN ('fit', 'check', 'trunk', 'sensitivity'));
