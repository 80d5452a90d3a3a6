/* Stands at the end of quickjs.c. */

/* What the cycle collector would go through. QuickJS still takes a shape out of it that becomes larger. */
static struct list_head bulkhead_image_objects;

/* What is below `end` becomes the image: src/heap.rs says so next. Once, while the component is built. */
void bulkhead_seal_image(JSContext *ctx, uintptr_t end)
{
    struct list_head *objects = &JS_GetRuntime(ctx)->gc_obj_list;
    struct list_head *each;
    if (bulkhead_image_end != 0)
        abort();
    list_for_each(each, objects) {
        if ((uintptr_t)each >= end)
            abort();
    }
    bulkhead_image_objects = *objects;
    bulkhead_image_objects.next->prev = &bulkhead_image_objects;
    bulkhead_image_objects.prev->next = &bulkhead_image_objects;
    init_list_head(objects);
}
