# A pattern that can only match where the text begins is tried there alone, and not at each place of the text.
s/^    if \(!is_sticky\) \{$/    if (!is_sticky \&\& !bulkhead_is_anchored(buf, buf_len, re_flags)) {/
