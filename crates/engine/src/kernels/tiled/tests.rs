use super::product::{Product, SCRATCH, Target};
use super::*;
use crate::kernels::activation::Activation;
use crate::kernels::isa::Isa;
use crate::kernels::linear::tests::{Dense, number};
use crate::kernels::linear::{Format, Linear};
use crate::kernels::team::Team;

#[test]
fn bench() {
    let Some(_isa) = Isa::available().into_iter().find(|isa| isa.has_tiles()) else { return };
    let team = Team::new(1);
    for (inputs, outputs, format, act) in [
        (384, 1152, Format::Bf16, None), (384, 384, Format::Bf16, None),
        (384, 1536, Format::Bf16, Some((Activation::Gelu, false))), (1536, 384, Format::Bf16, None),
        (384, 1152, Format::I8, None), (384, 384, Format::I8, None),
        (384, 1536, Format::I8, Some((Activation::Gelu, false))), (1536, 384, Format::I8, None)] {
        let rows = 384;
        let layers: Vec<_> = (0..8).map(|s| {
            let w: Vec<f32> = (0..inputs * outputs).map(|i| number(i + s) * 0.1).collect();
            Linear::pack(&team, &Dense { weights: &w, inputs }, &vec![0.0; outputs], format).unwrap()
        }).collect();
        let steps = if format == Format::Bf16 { inputs / 32 } else { inputs / 64 };
        let mut mem = Buffer::zeroed(TileRows::len(rows, steps));
        for (i, v) in mem.iter_mut().enumerate() { *v = if format == Format::Bf16 { crate::kernels::linear::to_bf16(number(i)) } else { (number(i) * 20000.0) as i32 as u16 }; }
        let from = TileRows::new(&mut mem, rows, steps);
        let mut scales = Buffer::<f32>::zeroed(rows * 2); scales.fill(0.01);
        let mut out = Buffer::<f32>::zeroed(rows * outputs);
        let mut half = Buffer::<u16>::zeroed(rows * outputs);
        let mut scratch = Buffer::<f32>::zeroed(SCRATCH);
        let scales = Rows::new(&mut scales, rows, 2);
        let floats = Target::Floats { to: Rows::new(&mut out, rows, outputs), add: true };
        let halves = Target::Halves { to: Halves::Tiles(TileRows::new(&mut half, rows, outputs / 32)), activation: act };
        for (name, to) in [("floats", floats), ("halves", halves)] {
            let mut best = f64::MAX;
            for _ in 0..20 {
                let t = std::time::Instant::now();
                for layer in &layers {
                    let p = Product { layer, from, scales, to, steps: Product::all_steps(layer), origin: 0 };
                    unsafe { p.run(0..rows / 16, 0..p.num_panels(), &mut scratch) };
                }
                best = best.min(t.elapsed().as_secs_f64());
            }
            println!("{inputs}x{outputs} {format:?} {name}: {:.0} GFLOP/s {:.2} us/token-layer", 8.0 * 2.0 * (rows * inputs * outputs) as f64 / best / 1e9, best / 8.0 / rows as f64 * 1e6);
        }
    }
}
