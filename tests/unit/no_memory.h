/* no_memory.h - libcrypto's memory, which runs out when a test says so.
 *
 * For unit tests only.
 */
#ifndef LEAD_TEST_NO_MEMORY_H
#define LEAD_TEST_NO_MEMORY_H

#include <openssl/crypto.h>
#include <stdbool.h>
#include <stdlib.h>

static _Thread_local bool out_of_memory;
static _Thread_local unsigned int runs_out_at; /* the allocation, from 1 on, that makes it so; 0: none does */

static bool is_out_of_memory(void)
{
    if (runs_out_at > 0 && --runs_out_at == 0)
        out_of_memory = true;
    return out_of_memory;
}

static void *get_memory(size_t bytes, const char *file, int line)
{
    (void)file;
    (void)line;
    return is_out_of_memory() ? NULL : malloc(bytes);
}

static void *get_more_memory(void *memory, size_t bytes, const char *file, int line)
{
    (void)file;
    (void)line;
    return is_out_of_memory() ? NULL : realloc(memory, bytes);
}

static void give_memory(void *memory, const char *file, int line)
{
    (void)file;
    (void)line;
    free(memory);
}

/* To be called before libcrypto is used for the first time; false: it is too late. */
static bool watch_memory(void)
{
    return CRYPTO_set_mem_functions(get_memory, get_more_memory, give_memory) != 0;
}

#endif
