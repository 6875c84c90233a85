/* replay.c - gives a fuzz target the inputs that are named, and an empty one; output in TAP.
 *
 * Runs without clang: so every input that was ever worth keeping is tried in
 * every variant of the build.
 */
#include "tests/fuzz/fuzz.h"

/* Copies the input into memory of its very size, so that reading behind it is found. */
static bool replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = NULL;
    if (!file)
        return false;
    bool good = fseek(file, 0, SEEK_END) == 0;
    long size = ftell(file);
    good = good && size >= 0 && fseek(file, 0, SEEK_SET) == 0;
    bytes = malloc(size > 0 ? (size_t)size : 1);
    good = good && bytes && fread(bytes, 1, (size_t)size, file) == (size_t)size;
    (void)fclose(file);
    if (good)
        (void)LLVMFuzzerTestOneInput(bytes, (size_t)size);
    free(bytes);
    return good;
}

int main(int argc, char **argv)
{
    int failed = 0;
    (void)LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        printf("# %s\n", argv[i]); /* the last one before the process ends is the one that fails */
        (void)fflush(stdout);
        bool good = replay(argv[i]);
        printf("%sok %d - %s\n", good ? "" : "not ", i, argv[i]);
        failed |= !good;
    }
    printf("1..%d\n", argc - 1);
    return failed;
}
