/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_WIRE_VECTOR_H
#define TESTS_WIRE_VECTOR_H

/* Golden vectors: frames in hex, in proto/vectors. */

#include <stddef.h>
#include <stdint.h>

#define VECTOR_SIZE 4096 /* of the longest */

struct vector {
        uint8_t bytes[VECTOR_SIZE];
        size_t len;
};

/* Reads proto/vectors/NAME.txt. Asserts that it is there and well-formed. */
void vector_read(const char *name, struct vector *ret_vector);

/* Calls `each` for every vector's name. Returns how many there are. */
size_t vector_for_each(void (*each)(const char *name, void *data), void *data);

/* Asserts that the bytes are those of the vector; says which byte differs otherwise. */
void vector_compare(const char *name, const void *bytes, size_t len);

#endif
