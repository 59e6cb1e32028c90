/* Packs: made once per key and file, private elsewhere, freed with the last user; the file reads the same
 * after its pages were let go. */
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/packs.h"
#include "check.h"

enum {
    FILE_BYTES = 64 << 10,
    USERS = 6,
    TURNS = 2000,
};

static _Atomic int64_t made;

typedef struct source {
    const unsigned char *bytes;
    size_t count;
} source;

/* The bytes backwards. */
static void reverse(we_pool *pool, const void *context, void *to) {
    const source *s = context;
    (void)pool;
    for (size_t i = 0; i < s->count; i++)
        ((unsigned char *)to)[i] = s->bytes[s->count - 1 - i];
    atomic_fetch_add(&made, 1);
}

static we_pack *get(we_packs *packs, const unsigned char *from, size_t count, int64_t parameter) {
    source s = {from, count};
    we_pack_key key = {.source = from, .source_bytes = count, .form = reverse, .parameters = {parameter}};
    we_error error;
    we_pack *pack = NULL;
    CHECK(we_packs_get(packs, NULL, &key, count, reverse, &s, &pack, &error) == WE_OK, "%s", error.message);
    const unsigned char *bytes = we_pack_bytes(pack);
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != from[count - 1 - i]) {
            CHECK(0, "byte %zu", i);
            break;
        }
    }
    return pack;
}

static unsigned char *map_file(void) {
    char path[] = "/tmp/walle-packs-XXXXXX";
    int file = mkstemp(path);
    unsigned char bytes[FILE_BYTES];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)check_random();
    CHECK(file >= 0 && write(file, bytes, sizeof bytes) == FILE_BYTES, "cannot write %s", path);
    unsigned char *mapped = mmap(NULL, FILE_BYTES, PROT_READ, MAP_PRIVATE, file, 0);
    CHECK(mapped != MAP_FAILED, "cannot map %s", path);
    close(file);
    unlink(path);
    return mapped;
}

static void check_sharing(we_packs *packs, const unsigned char *file) {
    we_pack *a = get(packs, file, 40000, 1), *b = get(packs, file, 40000, 1);
    CHECK(a == b && made == 1, "one pack for one key");
    we_pack *c = get(packs, file, 40000, 2), *d = get(packs, file + 1, 40000, 1),
            *e = get(packs, file, 39999, 1);
    CHECK(made == 4 && c != a && d != a && e != a && c != d && d != e, "another key, another pack");
    we_pack_release(packs, a);
    CHECK(get(packs, file, 40000, 1) == b && made == 4, "it lives while one user has it");
    we_pack_release(packs, b);
    we_pack_release(packs, b);
    a = get(packs, file, 40000, 1);
    CHECK(made == 5, "and no longer");
    we_pack_release(packs, a);
    we_pack_release(packs, c);
    we_pack_release(packs, d);
    we_pack_release(packs, e);
}

/* What may be freed and come back with other contents is not shared: nor is what sticks out of the file. */
static void check_private(we_packs *packs, const unsigned char *file) {
    static const unsigned char elsewhere[100] = "elsewhere";
    we_packs none;
    we_packs_init(&none, NULL, 0);
    made = 0;
    we_pack *got[] = {get(packs, elsewhere, 100, 1), get(packs, elsewhere, 100, 1), get(NULL, file, 100, 1),
                      get(NULL, file, 100, 1),       get(&none, file, 100, 1),      get(&none, file, 100, 1)};
    for (size_t i = 0; i < sizeof got / sizeof *got; i++)
        we_pack_release(i < 2 ? packs : i < 4 ? NULL : &none, got[i]);
    CHECK(made == 6, "%" PRId64 " made", (int64_t)made);
    we_packs_close(&none);
}

static void check_failing(we_packs *packs, const unsigned char *file) {
    source s = {file, 100};
    we_pack_key key = {.source = file, .source_bytes = 100, .form = reverse};
    for (int64_t n = 0;; n++) {
        we_error error;
        we_pack *pack = NULL;
        we_memory_fail_after(n);
        we_status status = we_packs_get(packs, NULL, &key, 100, reverse, &s, &pack, &error);
        we_memory_fail_after(-1);
        if (status == WE_OK) {
            we_pack_release(packs, pack);
            CHECK(n == 2, "%" PRId64 " allocations", n);
            return;
        }
        CHECK(status == WE_OUT_OF_MEMORY && n < 10, "%s", error.message);
    }
}

typedef struct user {
    we_packs *packs;
    const unsigned char *file;
} user;

static void *use(void *argument) {
    const user *u = argument;
    uint64_t state = (uint64_t)(uintptr_t)&state;
    for (int i = 0; i < TURNS; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        size_t at = (state >> 33) % 8;
        we_pack *one = get(u->packs, u->file + at, 1000, 0), *two = get(u->packs, u->file + at, 1000, 0);
        CHECK(one == two, "shared while in use");
        we_pack_release(u->packs, one);
        we_pack_release(u->packs, two);
    }
    return NULL;
}

static void check_users_at_once(we_packs *packs, const unsigned char *file) {
    pthread_t threads[USERS];
    user u = {packs, file};
    for (int i = 0; i < USERS; i++)
        CHECK(pthread_create(&threads[i], NULL, use, &u) == 0, "no thread");
    for (int i = 0; i < USERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < WE_PACK_BUCKETS; i++)
        CHECK(packs->buckets[i] == NULL, "a pack is left");
}

int main(int argc, char **argv) {
    check_seed(argc, argv);
    unsigned char *file = map_file();
    we_packs packs;
    we_packs_init(&packs, file, FILE_BYTES);
    check_sharing(&packs, file);
    check_private(&packs, file);
    check_failing(&packs, file);
    check_users_at_once(&packs, file);
    we_packs_close(&packs);
    munmap(file, FILE_BYTES);
    return check_result();
}
