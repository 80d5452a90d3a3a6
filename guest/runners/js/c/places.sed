# Gives each access to a property a place: without it what fails there has that of an earlier call or variable.
/^static __exception int js_parse_postfix_expr/,/^}/{
s/^( *)bool has_optional_chain = false;$/&\n\1int access_line = 0, access_column = 0; \/* places.sed *\//
s/^( *)prev_op = get_prev_opcode\(fd\);$/&\n\1access_line = s->token.line_num, access_column = s->token.col_num; \/* places.sed *\//
s/^( *)emit_op\(s, OP_get_array_el\);$/\1emit_source_loc_at(s, access_line, access_column); \/* places.sed *\/\n&/
s/^( *)emit_op\(s, OP_(get_field|scope_get_private_field)\);$/\1emit_source_loc(s); \/* places.sed *\/\n&/
}
