# Text files as C strings: cmake -DOUT=FILE -P embed.cmake NAME=FILE...; NAME becomes `const char NAME[]`. As bytes, for
# strings of C have a shortest length that compilers must take.
set(text "")
math(EXPR last "${CMAKE_ARGC} - 1")
foreach(i RANGE 0 ${last})
  if(NOT CMAKE_ARGV${i} MATCHES "^(we_[a-z_]+)=(.+)$")
    continue()
  endif()
  set(name ${CMAKE_MATCH_1})
  file(READ ${CMAKE_MATCH_2} bytes HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(APPEND text "extern const char ${name}[];\nconst char ${name}[] = {${bytes}0};\n")
endforeach()
file(WRITE ${OUT} "${text}")
