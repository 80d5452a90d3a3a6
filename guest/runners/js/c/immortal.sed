# Has quickjs.c count references as image.h does.
s/--JS_REF_COUNT\(([^()]+)\)/bulkhead_count_down(\1, \&JS_REF_COUNT(\1))/g
s/JS_REF_COUNT\(([^()]+)\)--/bulkhead_count_down(\1, \&JS_REF_COUNT(\1))/g
s/JS_REF_COUNT\(([^()]+)\)\+\+/bulkhead_count_up(\1, \&JS_REF_COUNT(\1))/g
s/JS_REF_COUNT\(([^()]+)\) (==|!=|>|<|>=|<=) /bulkhead_count(\1, JS_REF_COUNT(\1)) \2 /g
