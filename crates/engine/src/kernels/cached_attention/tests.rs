//! New tokens over kept ones against attention over all of them at once.

use super::*;
use crate::kernels::attention::Reach;
use crate::kernels::attention::tests::{definition, number};

/// Queries, keys and values of a conversation, all of it kept but for the last tokens.
struct Conversation {
    heads: Heads,
    shape: KeptShape,
    qkv: Vec<f32>,
    stride: usize,
    length: usize,
}

impl Conversation {
    fn new(length: usize, head_dim: usize, reach: Reach) -> Self {
        let heads = Heads {
            num_heads: 6,
            num_key_value_heads: 2,
            head_dim,
            scale: 1.3,
            reach,
        };
        let stride = heads.value_column() + padded(2 * head_dim);
        Self {
            heads,
            shape: KeptShape {
                num_layers: 1,
                num_key_value_heads: 2,
                head_dim,
                value_dim: head_dim,
                capacity: length.next_multiple_of(PANEL),
            },
            qkv: (0..length * stride).map(number).collect(),
            stride,
            length,
        }
    }

    /// The results of the last `count` tokens, a row each, computed in so many parts, the last first.
    fn attend(&self, isa: Isa, count: usize, parts: usize) -> Vec<f32> {
        let mut kept = Kept::new(&self.shape, CacheFormat::F32);
        let mut qkv = self.qkv.clone();
        let row = self.heads.num_heads * self.heads.head_dim;
        let mut out = vec![f32::NAN; self.length * padded(row)];
        let mut attention = CachedAttention {
            heads: self.heads,
            shape: self.shape,
            kept: kept.lend(),
            layer: 0,
            qkv: Rows::new(&mut qkv, self.length, self.stride),
            first: 0,
            count: self.length,
            past: 0,
            parts,
            out: Rows::new(&mut out, self.length, padded(row)),
        };
        // SAFETY: one thread, memory of its own.
        unsafe { (0..2).for_each(|head| attention.append(head)) };
        (attention.first, attention.past) = (self.length - count, self.length - count);
        attention.count = count;
        // Other tasks come before these, as those of another conversation would.
        let (before, tasks) = (5, attention.num_tasks());
        let mut memory = PartsMemory::default();
        let parts = memory.lend(before + tasks, self.heads.head_dim);
        let mut scratch = AttendScratch::default();
        for task in (0..tasks).rev() {
            // SAFETY: as above; all heads are kept.
            unsafe { attention.attend(isa, task, (parts, before), &mut scratch) };
        }
        let rows = out.chunks_exact(padded(row)).skip(self.length - count);
        rows.flat_map(|values| values[..row].to_vec()).collect()
    }
}

const REACHES: [Reach; 2] = [
    Reach {
        before: usize::MAX,
        after: 0,
    },
    Reach {
        before: 300,
        after: 0,
    },
];

#[test]
fn parts_agree_with_the_definition_on_every_isa() {
    for isa in Isa::available() {
        for (length, head_dim) in [(1, 16), (300, 24), (1100, 32)] {
            for reach in REACHES {
                let conversation = Conversation::new(length, head_dim, reach);
                let heads = &conversation.heads;
                let all = definition(heads, &conversation.qkv, conversation.stride, length);
                for count in [1, 3, 14] {
                    let count = count.min(length);
                    let row = heads.num_heads * head_dim;
                    let want = &all[(length - count) * row..];
                    for parts in [1, CachedAttention::parts_of(length)] {
                        let got = conversation.attend(isa, count, parts);
                        assert_eq!(got.len(), want.len());
                        for (got, want) in got.iter().zip(want) {
                            let off = (f64::from(*got) - want).abs();
                            assert!(
                                off < 1e-5,
                                "{isa} {length} {count} {parts} {reach:?}: {got} {want}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_token_does_not_depend_on_those_that_come_with_it() {
    // The token before the last part begins, alone and as the first of some that reach into it.
    for reach in REACHES {
        let alone = Conversation::new(512, 32, reach);
        let together = Conversation::new(518, 32, reach);
        for isa in Isa::available() {
            let alone = alone.attend(isa, 1, CachedAttention::parts_of(512));
            let together = together.attend(isa, 7, CachedAttention::parts_of(518));
            assert_eq!(alone, together[..alone.len()]);
        }
    }
}
