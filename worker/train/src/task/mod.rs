//! Evaluation tasks in a training: windows made of them, and their scores.
//!
//! `mixture` replaces training windows, `answer` asks the model, `score` turns answers into
//! metrics. The items are drawn in `sweep-data`, which also sees to it that none that is scored is
//! trained on.
//!
//! Probes of other limits of deep learning (memorised labels, unfamiliar data, attacks) will stand
//! beside `calibration`, which measures the first of them: whether confidence is deserved.

mod answer;
mod calibration;
mod mixture;
mod score;

pub(crate) use self::{
    answer::{largest, log_softmax},
    calibration::text,
    score::Tasks,
};
