# What of lua_cjson.c is changed for Lua with integers and for several threads;
# the functions are in adapt.h. Every line that changes is marked with adapted,
# so that the build can see that all changes were possible.

# Integers are written as such, not as floats with 14 digits.
/^static void json_append_number/,/^}/ {
	s|^    int len;$|    int len; /* adapted */\
    if (lua_isinteger(l, lindex)) {\
        strbuf_ensure_empty_length(json, INTEGER_SIZE);\
        strbuf_extend_length(json, write_integer(l, lindex, strbuf_empty_ptr(json)));\
        return;\
    }|
}

# Numbers without fraction and exponent are integers when they fit.
s|^        lua_pushnumber(l, token->value.number);$|        push_number(l, json->data + token->index, json->ptr, token->value.number); /* adapted */|

# Buffers count in int: no text may make them overflow.
/^static void json_append_string/,/^}/ {
	s|^    str = lua_tolstring(l, lindex, &len);$|&\
    if (len > (size_t)(MAX_TEXT - strbuf_length(json)) / 6) /* adapted */\
        luaL_error(l, "Cannot serialise, text too long");|
}
s|^    json.data = luaL_checklstring(l, 1, &json_len);$|&\
    luaL_argcheck(l, json_len <= MAX_TEXT, 1, "JSON text too long"); /* adapted */|

# Would write a variable of the process, at every start of a service: the
# decimal point of the locale, which here is always the dot.
s|^    fpconv_init();$|    /* adapted */|

# An error of Lua for want of memory passes the calls that free a buffer: both buffers
# belong to the configuration, which frees what was left there.
s|^    strbuf_t encode_buf;$|    strbuf_t decode_buf; /* adapted */\
&|
s|^    cfg = lua_newuserdata(l, sizeof(\*cfg));$|&\
    memset(cfg, 0, sizeof(*cfg)); /* adapted */|
/^static int json_destroy_config/,/^}/ {
	s|^        strbuf_free(&cfg->encode_buf);$|        strbuf_free(\&cfg->decode_buf), strbuf_free(\&cfg->encode_buf); /* adapted */|
}
s|^    strbuf_t local_encode_buf;$|    /* adapted */|
s|^        encode_buf = &local_encode_buf;$|        encode_buf = \&cfg->encode_buf; /* adapted */\
        strbuf_free(encode_buf);|
s|^    json.tmp = strbuf_new(json_len);$|    json.tmp = \&json.cfg->decode_buf; /* adapted */\
    strbuf_free(json.tmp);\
    strbuf_init(json.tmp, json_len);|
