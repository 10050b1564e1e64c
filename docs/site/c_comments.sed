# Doxygen reads /** and /**<: comments of the C header that stand before a declaration, and behind one
s@^( *)/[*] @\1/** @
s@([;,{0-9]) +/[*] @\1 /**< @
