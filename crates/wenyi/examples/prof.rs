//! profile
use std::time::Instant;
use wenyi::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let p = a[2].parse().unwrap();
    let opts = wenyi::embed::EncoderOptions { precision: Some(p), threads: Some(a[4].parse().unwrap()), ..Default::default() };
    let e = LocalEmbedder::open(std::path::Path::new(&a[1]), &opts).unwrap();
    use wenyi::embed::*;
    if a[3].ends_with(".json") {
        let g: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&a[3]).unwrap()).unwrap();
        let items = g["items"].as_array().or(g["texts"].as_array()).unwrap();
        let (mut min, mut sum, mut n) = (1.0f64, 0.0, 0);
        let texts: Vec<&str> = items.iter().map(|i| i["text"].as_str().or(i.as_str()).unwrap()).collect();
        for mode in 0..2 {
        let all = e.embed(&texts, &EmbedOptions { overflow: Overflow::Truncate, ..Default::default() }).unwrap();
        for (i, t) in texts.iter().enumerate() {
            let v: Vec<f64> = g["embeddings"].get(i).or(items[i].get("embedding")).or(g["vectors"].get(i)).unwrap().as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            let one = e.embed(&[*t], &EmbedOptions { overflow: Overflow::Truncate, ..Default::default() }).unwrap();
            let w = if mode == 0 { all.vector(i) } else { one.vector(0) };
            let dot: f64 = v.iter().zip(w).map(|(x, y)| x * *y as f64).sum();
            let norm: f64 = v.iter().map(|x| x * x).sum::<f64>().sqrt();
            let c = dot / norm;
            if c < 0.98 { println!("{c:.4} {} {}", t.len(), t.chars().take(40).collect::<String>()); }
            min = min.min(c); sum += c; n += 1;
        } }
        println!("{} golden: mean {:.6} min {:.6} of {}", a[2], sum / n as f64, min, n);
        return;
    }
    let text = std::fs::read_to_string(&a[3]).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let secs: f64 = a[5].parse().unwrap();
    use wenyi::embed::*;
    let mut best = vec![];
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < secs {
        let t = Instant::now();
        let r = e.embed(&lines, &EmbedOptions { overflow: Overflow::Truncate, ..Default::default() }).unwrap();
        let n: usize = r.usage.iter().map(|u| u.kept).sum();
        best.push(n as f64 / t.elapsed().as_secs_f64());
    }
    best.sort_by(f64::total_cmp);
    println!("{} {} median {:.0} best {:.0} tok/s of {} passes", a[2], a[3], best[best.len()/2], best[best.len()-1], best.len());
}
