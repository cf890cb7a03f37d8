//! Channels: fewer or more of them.

/// Interleaved `samples` of `from` channels as `to` channels, appended to `out`.
///
/// To one channel all are averaged; two become more by repeating; more than two become two by averaging the even ones to the
/// left and the odd ones to the right, which keeps left and right apart in every order of channels that MPEG has but the
/// centre. A last incomplete group is left out.
pub fn mix(samples: &[f32], from: usize, to: usize, out: &mut Vec<f32>) {
    if from == 0 || to == 0 {
        return;
    }
    if from == to {
        out.extend(samples.chunks_exact(from).flatten());
        return;
    }
    for frame in samples.chunks_exact(from) {
        match (from, to) {
            (_, 1) => out.push(mean(frame.iter())),
            (1, _) => out.extend(std::iter::repeat_n(frame.first().copied().unwrap_or(0.0), to)),
            (2.., 2) => {
                out.push(mean(frame.iter().step_by(2)));
                out.push(mean(frame.iter().skip(1).step_by(2)));
            }
            _ => out.extend(frame.iter().copied().cycle().take(to)),
        }
    }
}

fn mean<'a>(samples: impl Iterator<Item = &'a f32>) -> f32 {
    let (sum, count) = samples.fold((0.0, 0_u16), |(sum, count), sample| (sum + sample, count + 1));
    sum / f32::from(count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_averaged_and_repeated() {
        for (from, to, given, wanted) in [
            (2, 1, &[1.0, 0.0, 0.5, 0.5][..], &[0.5, 0.5][..]),
            (1, 2, &[0.25, -1.0], &[0.25, 0.25, -1.0, -1.0]),
            (2, 2, &[0.1, 0.2, 0.3], &[0.1, 0.2]),
            (4, 2, &[0.2, 0.4, 0.6, 0.8], &[0.4, 0.6]),
            (2, 4, &[0.1, 0.2], &[0.1, 0.2, 0.1, 0.2]),
            (0, 2, &[0.1], &[]),
        ] {
            let mut out = Vec::new();
            mix(given, from, to, &mut out);
            assert_eq!(out.len(), wanted.len(), "{from} to {to}");
            assert!(out.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{out:?}");
        }
    }
}
