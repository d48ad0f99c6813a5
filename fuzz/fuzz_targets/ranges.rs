//! Any bytes as a set of sequence numbers.
#![no_main]

use extranet_proto::ranges::RangeSet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(set) = RangeSet::decode(bytes) else {
        return;
    };
    let spans: Vec<_> = set.iter().collect();
    assert!(spans.iter().all(|span| span.start < span.end));
    assert!(spans.windows(2).all(|pair| pair[0].end < pair[1].start));
    assert_eq!(RangeSet::decode(&set.encode()), Ok(set.clone()));

    // Taken apart and put together again.
    let mut rest = set.clone();
    let mut sum = 0;
    for span in &spans {
        assert!(set.contains(span.start) && !set.contains(span.end));
        assert_eq!(
            rest.remove(span.start, span.end),
            std::slice::from_ref(span)
        );
        sum += span.end - span.start;
    }
    assert!(rest.is_empty());
    assert_eq!(set.count(), sum);
    for span in spans.iter().rev() {
        rest.insert(span.start, span.end);
    }
    assert_eq!(rest, set);
});
