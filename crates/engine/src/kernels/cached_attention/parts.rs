//! The keys of a tile of queries in parts, each a task, and how their results become one.
//!
//! A part knows the largest of its scores, and the sums of its weights and weighted values relative
//! to that (the running softmax, stopped); parts are brought to the same footing and added in order,
//! so the result does not depend on who computed which. As in "Flash-Decoding" (Dao and others, 2023).

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{KEY_BLOCK, QUERY_TILE};
use crate::kernels::attention::Running;
use crate::kernels::buffer::Buffer;
use crate::kernels::rows::{PANEL, Rows, padded};

/// Keys of a part: a divisor of those that are kept next to each other.
pub(super) const PART: usize = KEY_BLOCK / 2;

/// Memory for the results of parts, kept between passes.
#[derive(Debug)]
pub(crate) struct PartsMemory {
    results: Buffer<f32>,
    ended: Vec<AtomicUsize>,
}

impl Default for PartsMemory {
    fn default() -> Self {
        Self {
            results: Buffer::zeroed(0),
            ended: Vec::new(),
        }
    }
}

impl PartsMemory {
    /// Room for the results of `tasks` tasks with values of `value_dim` numbers.
    pub(crate) fn lend(&mut self, tasks: usize, value_dim: usize) -> Parts<'_> {
        let width = padded(value_dim);
        let rows = tasks * QUERY_TILE;
        self.results.reserve(rows * (width + PANEL));
        self.ended.clear();
        self.ended.resize_with(tasks, AtomicUsize::default);
        Parts {
            results: Rows::new(&mut self.results, rows, width + PANEL),
            ended: &self.ended,
            width,
        }
    }
}

/// The results of the parts of a pass: for each task a row for each query, of a sum of weighted values, the
/// largest score and the sum of the weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    results: Rows<'a, f32>,
    /// How many parts of the tile that begins with a task have ended.
    ended: &'a [AtomicUsize],
    width: usize,
}

impl Parts<'_> {
    /// Keeps what `task` found for its `row`-th query.
    ///
    /// # Safety
    ///
    /// The task is the calling thread's; `values` has no more numbers than were asked for.
    pub(super) unsafe fn keep(self, task: usize, row: usize, running: Running, values: &[f32]) {
        let to = self.results.at(task * QUERY_TILE + row, 0);
        // SAFETY: the row has room for the values and, behind them, two numbers more.
        unsafe {
            to.copy_from_nonoverlapping(values.as_ptr(), values.len());
            to.add(self.width).write(running.maximum);
            to.add(self.width + 1).write(running.sum);
        }
    }

    /// Counts one more ended part of the tile that begins with task `first`: true if it is the last
    /// of `parts`, which then sees the results of all.
    pub(super) fn is_last(self, first: usize, parts: usize) -> bool {
        self.ended[first].fetch_add(1, Ordering::AcqRel) + 1 == parts
    }

    /// Writes into `values` the attention's result for the `row`-th query of the `parts` tasks from
    /// `first` on.
    ///
    /// # Safety
    ///
    /// [`Parts::is_last`] was true on this thread.
    pub(super) unsafe fn merge(self, first: usize, parts: usize, row: usize, values: &mut [f32]) {
        let length = values.len();
        // SAFETY: all these rows are complete, and nobody writes them any more.
        let part = |part: usize| unsafe {
            let from = self.results.at((first + part) * QUERY_TILE + row, 0);
            let running = Running {
                maximum: from.add(self.width).read(),
                sum: from.add(self.width + 1).read(),
            };
            (running, std::slice::from_raw_parts(from, length))
        };
        // A part of which a query sees nothing has no weights, or those of hidden scores.
        let maximum = (0..parts)
            .map(|index| part(index).0.maximum)
            .fold(f32::MIN, f32::max);
        let factor = |running: Running| (running.maximum - maximum).exp();
        let sum = (0..parts)
            .map(|index| part(index).0)
            .filter(|running| running.sum != 0.0)
            .map(|running| running.sum * factor(running));
        let scale = 1.0 / sum.sum::<f32>();
        values.fill(0.0);
        for index in 0..parts {
            let (running, from) = part(index);
            if running.sum == 0.0 {
                continue;
            }
            let factor = factor(running) * scale;
            for (value, from) in values.iter_mut().zip(from) {
                *value += from * factor;
            }
        }
    }
}
